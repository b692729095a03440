"""MODEL to graph to engines; one file per exporter, one lowering file per detector."""
