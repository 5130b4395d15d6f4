"""A Hugging Face Space, or a page on one's own machine: record or upload, and see the emotions over time.

pip install -r requirements.txt
python app.py
"""

import gradio as gr

from affetto import AffettoError, Recogniser

recogniser = Recogniser.from_pretrained("small")
NOTE = (
    "It says what acted North American English sounds like in six words, not what a person feels. Nothing is "
    "to be decided about a person; at work and in education the EU's AI Act bans inferring emotions."
)


def predict(file: str | None) -> dict[str, float]:
    """Returns the probability of each emotion; of ``unknown`` where there is no speech."""
    if file is None:
        raise gr.Error("Record something, or choose a file.")
    try:
        return {score["label"]: score["score"] for score in recogniser.predict(file)}
    except AffettoError as error:
        raise gr.Error("This recording cannot be read.") from error


gr.Interface(
    predict,
    gr.Audio(sources=["microphone", "upload"], type="filepath", label="Recording"),
    gr.Label(label="Emotion"),
    title="Speech emotion recognition",
    description=NOTE,
    flagging_mode="never",
).launch()
