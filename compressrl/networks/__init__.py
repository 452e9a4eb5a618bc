"""The forms of a policy's network: plain layers, torch modules, integers, ONNX graphs; and their sizes."""
