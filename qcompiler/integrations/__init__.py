"""qcompile as a step of other tools' pipelines; each module is imported by its tool, or by whoever uses that tool."""
