"""For the learner: what a run, a judge or a formula says, as pictures. Each shows itself as a cell's last line."""
