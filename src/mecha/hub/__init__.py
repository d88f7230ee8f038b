"""The Hub: metadata from a Hugging Face compatible server, our own resumable transfer, and a mirror that serves one."""
