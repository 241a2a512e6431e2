"""
Private keys that never leave their token (PKCS #11).

`module` owns the state of a module in this process: sessions, logins, what is done when a token was lost. `keys` puts
what is on a token behind the key types of `cryptography`.
"""
