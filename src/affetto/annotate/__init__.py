"""What can be known of utterances without labels, as columns of a manifest."""
