"""
One order for a certificate: requested, asked for, normalised, admitted or taken up again.
"""
