"""onnxpipe's HTTP server: bundles behind the Hugging Face Inference API's own contract.

`onnxpipe serve BUNDLE...` starts it; `app.create_app` gives the ASGI application to whoever runs their own server.
"""
