#!/usr/bin/env bash
# Import 18 real Bridge episodes, train on 15 with the real-robot recipe, score the other 3.
# Usage: data_collection/score_real_recordings.sh SOURCE [FOLDER]
#   SOURCE: folder with episode_000 .. episode_017, each with an episode.npz
set -euo pipefail
source=${1:?usage: $0 SOURCE [FOLDER]}
folder=${2:-runs/bridge}
held_out=(15 16 17)
# Actions as BridgeData V2 trains on: differences of the states, grippers open or closed.
stable-crl episodes import "$source" "$folder/dataset" --actions relabelled --gripper binarised
# 64 pixels is the size of these recordings; batches of 16 suit 15 episodes and two CPU cores.
for preset in bridge bridge-gcbc; do
  stable-crl train "$folder/dataset" --out "$folder/$preset" --preset "$preset" --camera image_0 \
    --set image_size=64 batch_size=16 warmup_steps=20 actor_decay_steps=100 \
    --steps 100 --held-out "${held_out[@]}"
done
stable-crl evaluate "$folder/bridge/latest.safetensors" "$folder/bridge-gcbc/latest.safetensors" \
  --open-loop "$folder/dataset" --held-out "${held_out[@]}" --camera image_0
