"""Parts of a model that are computed in fewer passes over memory while it is busy; hooks on them still run."""
