"""Judges score answers by a rubric. They see rubric, question and answer, and never the arm."""
