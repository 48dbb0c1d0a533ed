import { join } from 'node:path'
import type { Log } from '../base/index.ts'
import type { SecretsOptions, StoreOptions } from '../cli/index.ts'
import type { SecretDeps } from '../engine/index.ts'
import type { KnownSecrets } from '../telemetry/index.ts'
import type { Env } from './places.ts'
import { openKeyRing } from './secret-keys.ts'
import { secretSources } from './secret-sources.ts'

/** What an engine keeps and finds secrets with, as this process was set up. */
export function openSecrets(options: {
  secrets: SecretsOptions
  store: StoreOptions
  dataDir: string
  env: Env
  log: Log
  known: KnownSecrets
}): SecretDeps {
  const { secrets, store, dataDir, env, log, known } = options
  return {
    ring: openKeyRing({
      given: { file: secrets.keyFile, variable: env['ORRERY_SECRETS_KEY'] },
      ownFile: store.kind === 'embedded' ? join(dataDir, 'secrets.key') : null,
      log,
    }),
    sources: secretSources({ env, envPrefix: secrets.envPrefix, dir: secrets.dir }),
    remember: (value) => known.add(value),
  }
}
