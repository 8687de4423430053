"""A stand-in for the pool: an OpenAI-compatible upstream that answers from rules instead of weights.

``python -m demo.stub --port 9911 --models small,mid,big`` serves one base URL per model,
``http://127.0.0.1:9911/<model>/v1``. Invariants:

* The path prefix decides who answers; every answer says ``answer from <model>``.
* The same request costs the same on every run and in every order; see :mod:`demo.stub.counting`.
* Every request is in the log before it is answered, in order of arrival, failures too.
* An answer's ``id`` ends in the ``id`` of its record, so that a client can tell which request was its own.
* It listens on loopback only, unless ``--host`` says otherwise.
"""
