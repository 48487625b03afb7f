"""An organism trained again with other seeds."""
