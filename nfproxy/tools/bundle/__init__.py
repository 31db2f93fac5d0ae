"""An archive for a report: ``parts`` collects its files, each bounded, and takes out secrets."""
