#!/usr/bin/env bash
# install.sh cuda|cpu [SHA256]: the locked dependencies into $VIRTUAL_ENV. SHA256: of the wheel of torch without CUDA.
set -euo pipefail
uv venv --quiet "$VIRTUAL_ENV"
without=()
if [ "$1" = cpu ]; then
    mapfile -t cuda < <(grep -oE '^name = "(nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+|triton|torch)"$' uv.lock | cut -d'"' -f2 | sort -u)
    without=("${cuda[@]/#/--no-emit-package=}")
elif [ "$1" != cuda ]; then
    echo "TORCH is '$1'; write cuda or cpu" >&2
    exit 2
fi
uv export --quiet --locked --no-dev --all-extras --no-emit-project "${without[@]}" --output-file /tmp/locked.txt
uv pip install --no-deps --require-hashes --compile-bytecode --requirements /tmp/locked.txt
if [ "$1" = cpu ]; then
    version=$(grep -A1 '^name = "torch"$' uv.lock | sed -n 's/^version = "\(.*\)"/\1/p')
    echo "torch==$version${2:+ --hash=sha256:$2}" >/tmp/torch.txt
    uv pip install --no-deps ${2:+--require-hashes} --compile-bytecode \
        --index-url https://download.pytorch.org/whl/cpu --requirements /tmp/torch.txt
fi
