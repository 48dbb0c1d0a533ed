/** npm pack: makes dist/ from src/, because Node strips no types below node_modules. A checkout runs from src/ and needs none of this. */
import { execFileSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..')
const DIST = join(ROOT, 'dist')

rmSync(DIST, { recursive: true, force: true })
execFileSync(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json'], {
  cwd: ROOT,
  stdio: 'inherit',
})
// What the program reads beside its modules.
for (const path of ['store/migrations', 'store/schema.txt'])
  cpSync(join(ROOT, 'src', path), join(DIST, path), { recursive: true })
