import { join } from 'node:path'
import type { Log } from '../base/index.ts'
import type { SecretsOptions, StoreOptions } from '../cli/index.ts'
import type { SecretDeps } from '../engine/index.ts'
import type { KnownSecrets } from '../telemetry/index.ts'
import type { Env } from './places.ts'
import { openKeyRing } from './secret-keys.ts'
import { secretSources } from './secret-sources.ts'

/** What an engine keeps and finds secrets with, as this process was set up. Throws `file.unreadable` when the keys that were named cannot be read. */
export async function openSecrets(options: {
  secrets: SecretsOptions
  store: StoreOptions
  dataDir: string
  env: Env
  log: Log
  known: KnownSecrets
}): Promise<SecretDeps> {
  const { secrets, store, dataDir, env, log, known } = options
  const ring = openKeyRing({
    given: { file: secrets.keyFile, variable: env['ORRERY_SECRETS_KEY'] },
    ownFile: store.kind === 'embedded' ? join(dataDir, 'secrets.key') : null,
    log,
  })
  await ring.ids()
  return {
    ring,
    sources: secretSources({ env, envPrefix: secrets.envPrefix, dir: secrets.dir }),
    remember: (value) => known.add(value),
  }
}
