"""Everything that is fitted on good images after training."""
