#!/usr/bin/env bash
# What needs a GPU: encoders trained from scratch on clusters, and masked encoders of published sizes. In two parts:
#
#   experiments/device.sh prepare   where packages and time are: manifests with clusters, vectors, curves and controls, in $PREPARED
#   experiments/device.sh piece     on the GPU: goes on where the last piece stopped, for $PIECE_SECONDS, and packs what is finished
#
# A piece leaves in $OUT an archive of each plan, NAME.tar.xz (in parts of 15 MiB where it is larger), and device.log. An archive holds
# the tables, their logs, and the finished runs without weights. On the same machine the next piece finds everything in $WORK. Another
# machine is given the archives in $EARLIER; it repeats a pretraining only where rows of its method are missing.
#
# By their operations (1, 2.5 and 1 TFLOP a step) a pretraining of the first plan takes a minute on an H100, Mockingjay four, NPC two.
#
#   AFFETTO_ROOT_CREMA_D, AFFETTO_ROOT_RAVDESS  folders of the recordings; AudioWAV is in the first
#   PREPARED       manifests and arrays [prepared]. The first plan reads clusters.* and voice/, the second curves.*, intensity/, asked/,
#                  loudness/ and shuffled-intensity.*, the third curves-by-fold.* and intensity-by-fold/
#   OUT            what a piece brings back [device-out]
#   WORK           runs and tables while it works [device-work]
#   EARLIER        archives of earlier pieces [none]
#   PLANS          names in experiments/planned, in order [the three below]
#   PIECE_SECONDS  how long a piece may take, packing included [480]
#   WHISPER        folder of Whisper base, for the recogniser that prepare asks [openai/whisper-base from the hub]
#   SIZE           full, or toy: a synthetic corpus and tiny networks, to try the script without a GPU [full]
#   PYTHON         with torch and what pyproject.toml lists [python3]; prepare also needs Resemblyzer and transformers
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${PREPARED:=prepared}" "${OUT:=device-out}" "${WORK:=device-work}" "${EARLIER:=}" "${PIECE_SECONDS:=480}" "${SIZE:=full}" "${PYTHON:=python3}"
: "${PLANS:=crema-d-pretraining crema-d-masking crema-d-6-emosuperb5-masking}" "${WHISPER:=whisper}"
export PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
declare -A manifests=([crema-d-pretraining]=clusters.csv [crema-d-masking]=curves.csv [crema-d-6-emosuperb5-masking]=curves-by-fold.csv)
affetto() { "$PYTHON" -m affetto "$@"; }
once() { [[ -e "$1/DONE" || -f "$1" ]] || "${@:2}"; } # what is there already stays

prepare() {
  mkdir -p "$PREPARED"
  cd "$PREPARED"
  local protocol=crema-d-6-evar folds=crema-d-6-emosuperb5 recogniser="$WHISPER + ge2e" tiny=()
  if [[ $SIZE == toy ]]; then
    once crema-d.csv affetto scan toy toy -o crema-d.csv --speakers 6 --takes 1
    once both.csv cp crema-d.csv both.csv
    cp -f crema-d.roots.json both.roots.json
    printf '%s\n' >toy-protocol.yaml 'name: toy' 'description: the toy corpus, one fold' 'corpus: toy' 'units: f01 f02 f03 m01 m02 m03' \
      'labels: [anger, fear, happiness, neutral, sadness]' 'label_source: made' 'folds: [{test: f03, dev: m03}]' 'dev_rule: made up'
    protocol=toy-protocol.yaml folds=toy-protocol.yaml recogniser=functionals tiny=(ranker.train.epochs=1)
  else
    once crema-d.csv affetto scan crema-d "$AFFETTO_ROOT_CREMA_D" -o crema-d.csv
    once ravdess.csv affetto scan ravdess "$AFFETTO_ROOT_RAVDESS" -o ravdess.csv
    once both.csv affetto manifest join crema-d.csv ravdess.csv -o both.csv
  fi
  affetto annotate speakers crema-d.csv --encoder ge2e-statistics --name voice -o voice
  affetto annotate speakers voice/manifest.csv --encoder ge2e-content --name content -o content
  affetto annotate speakers content/manifest.csv --encoder ge2e -o speakers
  affetto annotate clusters speakers/manifest.csv --embedding voice --content content -o clusters
  once random.csv "$PYTHON" "$here/controls.py" random clusters/manifest.csv -o random.csv
  once duration.csv "$PYTHON" "$here/controls.py" duration random.csv -o duration.csv
  once loudness.csv "$PYTHON" "$here/controls.py" loudness duration.csv -o loudness.csv
  once clusters.csv "$PYTHON" "$here/controls.py" pitch loudness.csv -o clusters.csv
  affetto finetune --manifest crema-d.csv --protocol "$protocol" --encoder "$recogniser" --no-enrolment -o recogniser
  affetto annotate intensity both.csv --protocol "$protocol" -o intensity "${tiny[@]}"
  affetto annotate intensity intensity/manifest.csv --source recogniser --recogniser recogniser/recogniser --name asked -o asked \
    window_seconds=0.5 hop_seconds=0.2
  affetto annotate intensity asked/manifest.csv --source loudness -o loudness
  once curves.csv "$PYTHON" "$here/controls.py" shuffled-intensity loudness/manifest.csv -o curves.csv
  affetto annotate intensity crema-d.csv --protocol "$folds" -o intensity-by-fold "${tiny[@]}"
  "$PYTHON" - <<'PY'
# What no plan reads need not travel: the content is the largest array. Places of arrays are seen from the manifest.
from dataclasses import replace
from pathlib import Path

from affetto.corpora.manifest import Manifest

for source, new, unread in (
    ("clusters.csv", "clusters.csv", ["content", "speaker_embedding"]),
    ("intensity-by-fold/manifest.csv", "curves-by-fold.csv", []),
):
    manifest = Manifest.read(Path(source))
    replace(manifest, table=manifest.table.drop(columns=unread, errors="ignore")).write(Path(new))
PY
}

piece() {
  local began=$SECONDS name left plans="$here/planned"
  mkdir -p "$OUT" "$WORK/tables" "$WORK/runs"
  if [[ -n $EARLIER && ! -e $WORK/unpacked ]]; then
    for name in $PLANS; do cat "$EARLIER/$name.tar.xz"* | tar xJf - -C "$WORK"; done
    touch "$WORK/unpacked"
  fi
  if [[ $SIZE == toy ]]; then
    plans=$WORK/plans
    toy_plans "$plans"
  fi
  for name in $PLANS; do
    left=$((PIECE_SECONDS - 30 - SECONDS + began))
    ((left > 0)) || break
    echo "$(date -u +%T) $name, $left s left" >>"$WORK/device.log"
    # Ended at any moment, it loses at most what came after the last checkpoint.
    timeout -k 10 "$left" "$PYTHON" -m affetto experiment "$plans/$name.yaml" --manifest "$PREPARED/${manifests[$name]}" \
      -o "$WORK/tables" --runs "$WORK/runs" >>"$WORK/tables/$name.log" 2>&1 ||
      echo "  stopped with $?: $(tail -n 1 "$WORK/tables/$name.log")" >>"$WORK/device.log"
  done
  pack "$plans"
  cp "$WORK/device.log" "$OUT"
  tail -n 20 "$WORK/device.log"
  for name in $(find "$OUT" -name '*.tar.xz' -size +15M); do split -d -b 15M "$name" "$name." && rm "$name"; done
}

toy_plans() { # the same plans with tiny networks: $1 is the folder of the new ones
  mkdir -p "$1"
  "$PYTHON" - "$here/planned" "$1" "$PREPARED/toy-protocol.yaml" $PLANS <<'PY'
import sys
from pathlib import Path

import yaml

TINY = {"width": 16, "blocks": 1, "heads": 2, "feed_forward": 16, "epochs": 1, "batch_size": 16, "per_speaker": 8}
source, new, protocol, *names = sys.argv[1:]
TINY |= {"protocol": protocol, "seeds": [0]}


def tiny(value):
    if isinstance(value, dict):
        small = {key: TINY.get(key, tiny(each)) for key, each in value.items()}
        return small | {"bins": 16} if "name" in small and small["name"] in ("cnn", "mockingjay", "npc") else small
    return [tiny(each) for each in value] if isinstance(value, list) else value


for name in names:
    plan = yaml.safe_load((Path(source) / f"{name}.yaml").read_text(encoding="utf-8"))
    (Path(new) / f"{name}.yaml").write_text(yaml.safe_dump(tiny(plan), sort_keys=False), encoding="utf-8")
PY
}

pack() { # finished runs of every plan and its tables; $1 is the folder of the plans
  "$PYTHON" - "$1" "$WORK" "$OUT" $PLANS <<'PY'
import sys
import tarfile
from pathlib import Path

from affetto.config import build, read
from affetto.experiment import read_results
from affetto.experiment.run import Experiment, _slug

plans, work, out, *names = sys.argv[1:]
for name in names:
    plan, runs = build(Experiment, read(Path(plans) / f"{name}.yaml")), Path(work) / "runs" / name
    found = {(row.method, row.label_fraction) for row in read_results(Path(work) / "tables" / f"{name}.json")}
    fractions = sorted(plan.label_fractions) or [1.0]
    missing = [row for row in plan.rows if any((row.method, each) not in found for each in fractions)]
    needed = {_slug(row.pretrained) for row in missing if row.pretrained}  # with weights, which do not travel
    kept = []
    for done in runs.rglob("DONE"):
        parts = done.parent.relative_to(runs).parts
        if parts[0] == "pretraining":
            if len(parts) == 2 and parts[1] not in needed:
                kept += [done.parent / file for file in ("DONE", "meta.json", "config.yaml", "env.json")]
                kept += [*done.parent.glob("seed-*/fold-*/metrics.jsonl"), *done.parent.glob("seed-*/fold-*/encoder/config.json")]
        elif not parts[-1].startswith("fold-"):
            kept += [file for file in done.parent.iterdir() if file.is_file()]
    kept += (Path(work) / "tables").glob(f"{name}*")
    with tarfile.open(Path(out) / f"{name}.tar.xz", "w:xz") as archive:
        for file in sorted(file for file in kept if file.exists()):
            archive.add(file, file.relative_to(work))
    done = len(plan.rows) - len(missing)
    with open(Path(work) / "device.log", "a", encoding="utf-8") as log:
        log.write(f"  {name}: {done} of {len(plan.rows)} rows are finished\n")
PY
}

case "${1:-}" in
prepare | piece) "$1" ;;
*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
