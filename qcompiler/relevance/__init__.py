"""How much each layer matters to the prediction, measured on unlabelled images."""
