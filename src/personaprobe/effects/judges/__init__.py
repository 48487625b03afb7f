"""Judges score answers by a rubric. They see the rubric, the question and the answer, and never the arm."""
