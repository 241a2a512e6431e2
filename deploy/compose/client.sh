#!/bin/sh
# The partner of the compose files: gets its certificate once, then connects to each host of HOSTS every few seconds and
# says what came of it. /tmp/accepted is there while all of the last connections were accepted.
set -eu
config=/pki/partner.toml
until cftpki identity issue partner --config "$config"; do sleep 2; done
while :; do
  generation=$(ls -d /var/lib/cftpki/identities/partner/generations/[0-9]* | sort | tail -n 1)
  accepted=yes
  for host in ${HOSTS:-server}; do
    cft-hostsim client --connect "$host:1762" --cert "$generation/chain.pem" --key "$generation/key.pem" \
      --ca /pki/root.crt --send-data || accepted=no
  done
  if [ $accepted = yes ]; then touch /tmp/accepted; else rm -f /tmp/accepted; fi
  sleep 5
done
