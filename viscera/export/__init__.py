"""A trained model in the forms of other programs: ONNX with a contract and a runner, and whatever else leaves home."""
