"""The gRPC server: predicts intent and recommends products from one release."""
