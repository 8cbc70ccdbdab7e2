#!/usr/bin/env bash
# Makes the environments of the real servers and of their client, in two to three minutes: the tests that ask a server
# skip without them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_setup.sh
set_up "[test,lint,train,report,cluster,sign]"
rnn-export runtimes install triton mlserver open-inference onnxruntime@1.19.2 onnxruntime@1.23.1
