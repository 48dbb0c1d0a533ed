// The first command in a fresh clone: brings node_modules and the Node of this project, then runs scripts/<task>.ts with it.
// Plain JavaScript, because the Node that starts it may be as old as 18 and nothing is installed yet.
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, symlinkSync, writeSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const NODE_MAJOR = 24
const BIN = join(ROOT, 'node_modules', '.bin')
const LOCK = join(ROOT, '.cache', 'install.lock')
const LOCK_WAIT_MS = 10 * 60_000

const [task, ...args] = process.argv.slice(2)
const isVerbose = args.includes('-v')

/** Ends with a message for the person at the terminal. */
function refuse(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

const readJson = (path) => {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return null
  }
}

/** What differs between the lock file and what is installed; null when nothing does. Compares versions, not times: a checkout changes times. */
function whatIsStale() {
  const wanted = readJson(join(ROOT, 'package-lock.json'))?.packages
  if (!wanted) refuse('package-lock.json is missing or broken: this is not a whole checkout of Orrery.')
  const present = readJson(join(ROOT, 'node_modules', '.package-lock.json'))?.packages
  if (!present) return 'nothing is installed yet'
  for (const [path, { version, optional, link }] of Object.entries(wanted)) {
    if (path === '' || link) continue
    if (!present[path] ? !optional : present[path].version !== version) return `${path} is not at ${version}`
    if (present[path] && !existsSync(join(ROOT, path, 'package.json'))) return `${path} is gone`
  }
  return Object.keys(present).find((path) => !(path in wanted)) ?? null
}

const isAlive = (pid) => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Runs `work` while no other bootstrap of this checkout does. The lock of a process that died is taken over. */
async function withLock(work) {
  mkdirSync(dirname(LOCK), { recursive: true })
  const until = Date.now() + LOCK_WAIT_MS
  for (;;) {
    try {
      const file = openSync(LOCK, 'wx')
      writeSync(file, String(process.pid))
      closeSync(file)
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = existsSync(LOCK) ? Number(readFileSync(LOCK, 'utf8')) : 0
    if (holder > 0 && !isAlive(holder)) rmSync(LOCK, { force: true })
    else if (Date.now() > until)
      refuse(`Process ${holder} still installs after ten minutes. End it, or remove ${LOCK}.`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  process.on('exit', () => rmSync(LOCK, { force: true }))
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
  work()
  rmSync(LOCK, { force: true })
}

/** Runs a command in the checkout; what it prints is shown when it fails, or always with -v. */
function run(command, commandArgs) {
  const done = spawnSync(command, commandArgs, {
    cwd: ROOT,
    stdio: isVerbose ? 'inherit' : 'pipe',
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  const ok = done.status === 0
  if (!ok && !isVerbose) process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}`)
  return { ok, error: done.error }
}

function install(reason) {
  process.stderr.write(`Installing packages (${reason})…\n`)
  // Inside `npm run` this names the npm in use; a bare `npm` on the PATH may be another one.
  const npm = process.env.npm_execpath
  const { ok, error } =
    npm && /\.c?js$/.test(npm)
      ? run(process.execPath, [npm, 'ci', '--no-audit', '--no-fund'])
      : run('npm', ['ci', '--no-audit', '--no-fund'])
  if (error?.code === 'ENOENT')
    refuse('npm was not found. Install Node.js with npm (any version from 18), then try again.')
  if (!ok) refuse('npm ci failed; its output is above. Nothing else was started.')
}

/** The version of a Node executable, or null when it does not run. */
function versionOf(node) {
  const done = spawnSync(node, ['--version'], { encoding: 'utf8' })
  const match = /^v(\d+)\./.exec(done.stdout ?? '')
  return match ? { text: done.stdout.trim(), major: Number(match[1]) } : null
}

/** The Node that runs the project: the one that npm installed, else the one that runs now when it is new enough. */
function findNode() {
  const own = join(BIN, process.platform === 'win32' ? 'node.cmd' : 'node')
  if ((versionOf(own)?.major ?? 0) >= NODE_MAJOR) return own
  // An npm that runs no install scripts leaves the package without its executable, and the link to it unmade: do both ourselves.
  const script = join(ROOT, 'node_modules', 'node', 'installArchSpecificPackage.js')
  if (existsSync(script) && process.platform !== 'win32') {
    const env = { ...process.env, npm_config_ignore_scripts: 'false' }
    const done = spawnSync(process.execPath, [script], { cwd: dirname(script), env, encoding: 'utf8' })
    if (existsSync(join(ROOT, 'node_modules', 'node', 'bin', 'node'))) {
      rmSync(own, { force: true })
      symlinkSync(join('..', 'node', 'bin', 'node'), own)
    }
    if ((versionOf(own)?.major ?? 0) >= NODE_MAJOR) return own
    process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}`)
  }
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) return process.execPath
  refuse(
    `Orrery needs Node ${NODE_MAJOR} and this is ${process.version}. The package "node" should have brought it, but ${own} does not run: ` +
      `its install script did not run or has no build for ${process.platform} ${process.arch}.\n` +
      `Run "npm rebuild node" and look at what it prints, or install Node ${NODE_MAJOR} yourself and try again.`,
  )
}

if (!task) refuse('Usage: node scripts/bootstrap.mjs TASK [ARGUMENTS]')
if (whatIsStale() !== null) {
  await withLock(() => {
    const reason = whatIsStale() // another bootstrap may have installed while this one waited
    if (reason !== null) install(reason)
  })
}
const node = findNode()
const child = spawn(node, [join(ROOT, 'scripts', `${task}.ts`), ...args], {
  stdio: 'inherit',
  env: { ...process.env, PATH: `${BIN}${delimiter}${process.env.PATH ?? ''}` },
})
process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('error', (error) => refuse(`${node} could not be started: ${error.message}`))
child.on('exit', (code, signal) => process.exit(code ?? (signal ? 1 : 0)))
