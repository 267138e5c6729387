#!/usr/bin/env bash
# Everything behind the shipped checkpoint and its table: collect, train, score.
# About an hour and a half on two CPU cores. Usage: data_collection/make_checkpoint.sh [FOLDER]
set -euo pipefail
folder=${1:-runs/checkpoint}
# In bf16, as most CPUs of the last years and all GPUs compute it; fp32 takes half as long again.
how=(--steps 20000 --seed 0 --device cpu --threads 1 --save-every 2000
     --set actor_decay_steps=20000 precision=bf16)
stable-crl collect "$folder/expert" --recipe expert --transitions 240000 --seed 0
stable-crl train "$folder/expert" --out "$folder/stable_crl" --preset laptop "${how[@]}"
stable-crl train "$folder/expert" --out "$folder/gcbc" --preset laptop-gcbc "${how[@]}"
tasks=()
for task in open_drawer close_drawer move_drawer push_block pick_place place_in_drawer \
            push_then_open; do
  tasks+=(--task "$task")
done
stable-crl evaluate "$folder/stable_crl/latest.safetensors" "$folder/gcbc/latest.safetensors" \
  "blind:$folder/stable_crl/latest.safetensors" "replay:$folder/expert" constant none \
  "${tasks[@]}" --episodes 100 --seed 0 --json "$folder/scores.json"
# The first two on the scenes that both met.
python "$(dirname "$0")/compare_scores.py" "$folder/scores.json"
