"""The evaluation: free answers of every arm, judged, with contrasts and costs."""
