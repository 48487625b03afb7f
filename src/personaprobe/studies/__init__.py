"""How a question is put and kept: the ablation study, its figures and its report."""
