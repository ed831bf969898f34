"""THE SCHOOL: data sources, mixture and training. From narratives to an adapter in outputs/."""
