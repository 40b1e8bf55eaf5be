"""Uses of a trained model: searching, ranking, explaining, scoring on other datasets, exporting."""
