#!/usr/bin/env bash
# Everything behind the shipped checkpoint and its table: collect, train, score.
# About three quarters of an hour on two CPU cores. Usage: data_collection/make_checkpoint.sh [FOLDER]
set -euo pipefail
folder=${1:-runs/checkpoint}
stable-crl collect "$folder/drawer" open_drawer=400 close_drawer=300 move_drawer=300 --seed 0
stable-crl train "$folder/drawer" --out "$folder/stable_crl" --preset laptop --seed 0 --threads 1
stable-crl train "$folder/drawer" --out "$folder/cloning_0.05" --preset laptop --seed 0 --threads 1 \
  --set bc_coefficient=0.05
stable-crl train "$folder/drawer" --out "$folder/gcbc" --preset laptop-gcbc --seed 0 --threads 1
stable-crl evaluate "$folder/stable_crl/latest.safetensors" \
  "$folder/cloning_0.05/latest.safetensors" "$folder/gcbc/latest.safetensors" \
  "blind:$folder/stable_crl/latest.safetensors" constant none \
  --task open_drawer --task close_drawer --episodes 100 --seed 0 --json "$folder/scores.json"
