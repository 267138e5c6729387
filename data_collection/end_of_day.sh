#!/usr/bin/env bash
# Seal, verify and picture what a day recorded.
# Usage: data_collection/end_of_day.sh DATASET [FOLDER]
#   FOLDER: for findings.txt, statistics.txt, histograms.png, a sheet per episode and split.json
# The exit status is 1 when the verification found errors; the pictures are made all the same.
set -euo pipefail
dataset=${1:?usage: $0 DATASET [FOLDER]}
folder=${2:-$dataset-report}
stable-crl episodes repair "$dataset"
mkdir -p "$folder"
stable-crl episodes list "$dataset"
status=0
stable-crl episodes verify "$dataset" | tee "$folder/findings.txt" || status=$?
stable-crl episodes stats "$dataset" --histograms "$folder/histograms.png" >"$folder/statistics.txt"
numbers=$(stable-crl episodes list "$dataset" --hide-discarded --json |
  python3 -c 'import json, sys
for dataset in json.load(sys.stdin)["datasets"]:
    print(*(episode["episode"] for episode in dataset["episodes"]))')
for number in $numbers; do
  stable-crl episodes view "$dataset" "$number" --out "$folder/episode_$number.png"
done
# Too few episodes to hold any back are no error.
stable-crl episodes split "$dataset" --out "$folder/split.json" || true
exit "$status"
