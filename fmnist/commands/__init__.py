"""The commands that are not jobs: a module each, with a function ``run``."""

# Here and not in the modules: `fmnist --help` imports none of them.
SUMMARIES = {
    "evaluate": "measure a run's saved model on the test images again",
    "predict": "classify pictures with a run's model",
    "export": "write a run's model for ONNX, LiteRT or TensorFlow, compared with the run's own",
    "runs": "list, show, compare, reproduce, pull and verify the runs of an artifact store",
    "audit": "say what makes a run's figures, or anybody's data and predictions, unreliable",
    "data": "describe and prepare a data set",
    "weights": "stage pretrained weights where a cluster without internet finds them",
}
