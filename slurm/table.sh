#!/bin/bash
# A whole table on a SLURM cluster:  sbatch slurm/table.sh [CONFIG] [KEY=VALUE ...] [--scale SCALE]
#   sbatch slurm/table.sh configs/table2.yaml --scale small launcher.cluster=example
#
# This job only submits the trials as array jobs and prints the table: one core, no GPU. When its
# time is nearly over, it saves, is queued again and continues, as often as needed: nothing is lost
# and nothing is trained twice. After a hard kill, submit it again; it continues in the same way.
#
# ---- the one place to edit on another cluster: this job's resources, and how Python is found -------
#SBATCH --job-name=nos-table
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
##SBATCH --partition=cpu
##SBATCH --account=my_group
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log
environment() {
  : # module load python/3.11; source .venv/bin/activate
}
trials=(launcher=slurm) # launcher.cluster=NAME reads slurm/clusters/NAME.yaml
# -----------------------------------------------------------------------------------------------------

set -uo pipefail
environment
config=configs/table2.yaml
if [ $# -gt 0 ] && [[ $1 != *=* && $1 != -* ]]; then config=$1; shift; fi
results=results before=
for word in "$@"; do
  [ "$before" = --results ] && results=$word
  [[ $word == --results=* ]] && results=${word#*=}
  before=$word
done

# whether this is the third attempt or a later one, and in its few minutes nothing was saved
began=$(date +%s)
in_vain() {
  [ "${SLURM_RESTART_COUNT:-0}" -ge 2 ] && [ $(($(date +%s) - began)) -lt 1800 ] && [ -z "$(find "$results" \
    -newermt "@$began" \( -name 'record*.json*' -o -name 'checkpoint*' -o -name log.jsonl \) -print -quit 2>/dev/null)" ]
}

python -u -m nos_repro run "$config" "${trials[@]}" "$@" &
driver=$!

told= status=1
trap 'told=yes; kill -TERM "$driver" 2>/dev/null' USR2 TERM INT # time over, preempted, cancelled
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; status=$?; done

if [ -n "$told" ] && [ "$status" != 0 ]; then
  echo "[$(date +%T)] saved"
  if in_vain; then
    echo "nothing new was saved in this attempt, number $((SLURM_RESTART_COUNT + 1)): not queued again; give this job more --time"
    exit 1
  fi
  for _ in $(seq 30); do # until SLURM ends this job; a job being cancelled is not queued again
    sleep 5
    [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ] && scontrol requeue "$SLURM_JOB_ID"
  done
fi
exit "$status"
