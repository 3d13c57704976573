"""The operator's and CI's command: builds and signs releases here, asks the hub for everything else over HTTP."""
