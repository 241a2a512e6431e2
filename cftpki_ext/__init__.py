"""
cftpki: an enterprise PKI connector for managed file transfer.

The core package. `cftpki_ext.api` is the public Python interface; everything else is its machinery.
"""
