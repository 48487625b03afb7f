"""What it does outside: interventions, preference shift, answers, damage, statistics and the verdict."""
