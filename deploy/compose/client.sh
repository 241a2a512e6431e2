#!/bin/sh
# The partner of docker-compose.yml: gets its certificate once, then connects every few seconds and says what
# came of it. /tmp/accepted is there while the last connection was accepted.
set -eu
config=/pki/partner.toml
until cftpki identity issue partner --config "$config"; do sleep 2; done
while :; do
  generation=$(ls -d /var/lib/cftpki/identities/partner/generations/[0-9]* | sort | tail -n 1)
  if cft-hostsim client --connect server:1762 --cert "$generation/chain.pem" --key "$generation/key.pem" \
    --ca /pki/root.crt --send-data; then
    touch /tmp/accepted
  else
    rm -f /tmp/accepted
  fi
  sleep 5
done
