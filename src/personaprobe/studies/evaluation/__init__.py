"""The evaluation: sampled answers of every arm, judged, with contrasts between arms and the damage of the ablation."""
