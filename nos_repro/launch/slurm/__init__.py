"""Jobs on a SLURM cluster, through Submitit."""
