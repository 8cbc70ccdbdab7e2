#!/usr/bin/env bash
# From nothing to a proved ONNX file: sets up .venv, then runs the main job.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_setup.sh
set_up ""
started=$SECONDS
rnn-export demo
echo
python scripts/main_job.py -o out
echo "main job: $((SECONDS - started)) s"
echo "next: . .venv/bin/activate && rnn-export export YOUR.safetensors -o my-rnn && rnn-export verify my-rnn"
