"""The example with which the help of each verb opens; those on ``toy`` run where the first one has run."""

EXAMPLES = {
    "scan": "affetto scan toy toy -o toy.csv --speakers 6 --takes 1",
    "corpora": "affetto corpora savee",
    "protocols": "affetto protocols crema-d-6-evar",
    "manifest describe": "affetto manifest describe toy.csv",
    "manifest validate": "affetto manifest validate toy.csv",
    "manifest relabel": "affetto manifest relabel toy.csv --map valence-sign -o sign.csv --drop",
    "manifest join": "affetto manifest join first.csv other.csv -o both.csv",
    "pretrain": "affetto pretrain --manifest toy.csv --groups text -o runs/pretrained",
    "finetune": "affetto finetune --manifest toy.csv --protocol speaker-kfold --encoder functionals "
    "--no-enrolment -o runs/svm",
    "evaluate": "affetto evaluate runs/svm",
    "predict": "affetto predict toy/f01/f01_s01_anger_t01.flac",
    "embed": "affetto embed toy/f01 toy/m01 --encoder functionals -o functionals.npy",
    "serve": "affetto serve",
    "index": "affetto index toy -m runs/clap/recogniser -o index",
    "search": "affetto search 'a tired, sad voice' --index index --count 3",
    "experiment": "affetto experiment toy-heads.yaml --manifest toy.csv",
    "demo": "affetto demo",
    "push": "affetto push runs/svm jane/calls",
    "export onnx": "affetto export onnx small -o exported",
    "annotate speakers": "affetto annotate speakers toy.csv --encoder ge2e -o annotated/speakers",
    "annotate clusters": "affetto annotate clusters annotated/speakers/manifest.csv -o annotated/clusters",
    "annotate intensity": "affetto annotate intensity toy.csv --source loudness -o curves",
    "analyse clusters": "affetto analyse clusters annotated/clusters/manifest.csv -o analysis --map pca",
    "analyse layers": "affetto analyse layers toy.csv --encoder ge2e --protocol speaker-kfold -o layers",
}
