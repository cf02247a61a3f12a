#!/bin/bash
# One training on several machines of a SLURM cluster; docs/cluster.md explains it.
#
#     sbatch --nodes 2 --gpus-per-node 8 examples/slurm.sh --name web --task 15-5 --step 1 --weakly ...
#
# All that follows the script goes to run.py. The project lies in a folder that all machines see, and so do the folders of data,
# checkpoints and logs. Five minutes before its time is over the job is told, saves its state, and goes back into the queue.
#SBATCH --job-name=web-wilss
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2

python="${PYTHON:-.venv/bin/python}"
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# Two jobs whose first machine is the same need two ports.
port=$((10000 + SLURM_JOB_ID % 50000))

srun "$python" -m torch.distributed.run \
    --nnodes "$SLURM_NNODES" --nproc_per_node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$head:$port" \
    run.py "$@" --resume auto &
step=$!

# srun passes the signal on to its torchruns, they to their ranks, which stop after the same iteration.
stopped=
trap 'stopped=1; kill -TERM "$step" 2>/dev/null' TERM
wait "$step"
code=$?
# A signal ends the first wait before srun has ended.
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    code=$?
done
if [[ -n "$stopped" ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
