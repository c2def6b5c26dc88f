"""Networks: build, train, export. The only wing that imports torch."""
