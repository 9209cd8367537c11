from keras_mmrel.evaluation.plot_ici import plot_ici

__all__ = ["plot_ici"]
