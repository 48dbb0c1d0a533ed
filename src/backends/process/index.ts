export { createProcessBackend, type ProcessBackendOptions } from './process-backend.ts'
