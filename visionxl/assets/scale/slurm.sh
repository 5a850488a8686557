#!/bin/bash
#SBATCH --job-name=visionxl
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
# sbatch slurm.sh CLIP RESTORED
# Two minutes before its time is over the command is stopped; the next job goes on where it was.
set -euo pipefail
clip=$1 restored=$2
export RAY_USAGE_STATS_ENABLED=0
cards=$((SLURM_JOB_NUM_NODES * ${SLURM_GPUS_ON_NODE:-2}))

nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
export RAY_ADDRESS=$ip:$port

srun --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$ip" --port="$port" --block &
sleep 20
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head" ray start --address="$RAY_ADDRESS" --block &
    sleep 20
fi

visionxl restore "$clip" -o "$restored" --prior sdxl --ray --workers "$cards" --resume &
work=$!
trap "kill $work" TERM
wait $work || wait $work
