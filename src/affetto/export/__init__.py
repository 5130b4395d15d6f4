"""Recognisers in other programs: as ONNX files, in scikit-learn, on the Hugging Face hub."""
