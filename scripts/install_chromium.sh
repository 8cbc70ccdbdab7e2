#!/usr/bin/env bash
# Installs Debian's Chromium, the browser that the runtime onnxruntime-web runs in; as root.
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends chromium
