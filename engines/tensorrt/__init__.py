"""TensorRT: engines are built for one GPU, kept, explained when they do not fit, and run. Importable without
TensorRT."""
