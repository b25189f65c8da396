"""What runs in a candidate's own process: no task, no data, no loss; weights and gradients only."""
